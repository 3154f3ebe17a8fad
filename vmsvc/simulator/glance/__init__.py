"""Glance v2: images without their bytes. `model` has the image, `api` answers over HTTP."""
