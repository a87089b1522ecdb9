"""Everything that brings events in and carries decisions out."""
