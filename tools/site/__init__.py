"""The documentation site: what ``mkdocs.yml`` needs besides docs/."""
