"""A daemon in a world of its own: its loop, its clock, its broker, its store and its misfortunes are ours."""
