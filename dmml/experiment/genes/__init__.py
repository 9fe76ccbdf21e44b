"""What a test says of single genes: how they go with the predictions, and what they add to them."""
