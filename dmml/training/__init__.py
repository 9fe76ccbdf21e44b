"""Lightning modules that assemble networks, losses and backbones into trainable models."""
