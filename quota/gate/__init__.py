"""What a gateway asks with: the wire, the connections that callers share, what need not be asked."""
