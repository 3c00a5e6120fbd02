"""Scripts on promotion and demotion, and the process that ends them in time."""
