"""The dashboards as code: ``python -m grafana`` writes them."""
