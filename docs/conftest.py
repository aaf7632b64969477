"""Keeps pytest from importing the settings and the examples of the site, whose build runs them."""

collect_ignore = ["conf.py"]
collect_ignore_glob = ["gallery/*", "auto_gallery/*"]
