"""The live page: what of the pools it shows, in which words, and how it reaches the browser."""
