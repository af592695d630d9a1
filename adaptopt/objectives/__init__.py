"""What is minimised: the user's function, compiled or not, and means over batches of rows."""
