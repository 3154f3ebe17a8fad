"""Keystone v3: users, projects and tokens. `model` holds them, `api` answers over HTTP."""
