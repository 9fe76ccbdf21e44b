"""What a model knows of its limits: how far a slide is from its training slides, and calibrated sets and bounds."""
