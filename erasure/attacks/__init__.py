"""Attacks: how to bring back what an edit erased, to measure how well it was erased. One file an attack.

An attack on embeddings says what the UNet is given in place of a prompt's states, and what that depends on:

    attack = RingABell(vector, eta)
    generate(model, rows, folder, settings, identity | attack.identity(), encode=attack.encode(model))
"""
