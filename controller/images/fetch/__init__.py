"""The bytes of an image or installer: fetched, cached, checked. No host is known here."""
