"""The loops and their front ends, with stopping, state, options and reports."""
