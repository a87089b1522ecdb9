"""The model against the store: whatever happens, the two must do the same."""
