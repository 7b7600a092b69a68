"""What all pages are made of: their data, words and schemas, who may reach them, and the server of one machine."""
