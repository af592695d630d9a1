"""The comparison with other libraries; see ../compare.py."""
