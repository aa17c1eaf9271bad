"""Lumina-DiMOO, a masked discrete diffusion model that answers questions about images, draws and edits them."""
