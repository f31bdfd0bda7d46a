"""Images given images: restoration, translation, masked autoencoders."""
