"""What tenants may push: `admission` decides about each push, the other modules each know one limit."""
