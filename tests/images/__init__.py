"""Networks over images, restoration, masked autoencoders."""
