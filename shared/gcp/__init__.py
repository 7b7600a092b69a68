"""The ports on Google Cloud. Only this folder imports Google's clients, and maps every error of theirs to ours."""
