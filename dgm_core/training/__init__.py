"""What every training loop needs and no tensor library does."""
