"""The bytes of an image or installer: fetched, cached, checked. Nothing here knows a host."""
