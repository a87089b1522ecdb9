"""What is proved afterwards: journals against records, histories of gateways against journals."""
