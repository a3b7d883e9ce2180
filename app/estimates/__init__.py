"""What jobs will take, before a device is spent on them."""
