"""Who may do what: credentials (`credentials`), what a request may do with those it brings (`decide`), and HTTP's door (`guard`)."""
