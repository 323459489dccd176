"""A small drawn world (objects, faces, figures, painters) on which a small latent diffusion model can be trained."""
