"""What methods that train share: one network that is its own frozen original, draws that a resumed run repeats, and folders
of runs that survive a kill.

`frozen` keeps the trained tensors twice, `draws` makes the random numbers of an iteration from its number, `stopping` ends
an iteration before a signal does, `adam_state` names what an optimizer remembers, `run_folder` holds checkpoints and results, `naming` makes file names of prompts (and needs no
torch).
"""
