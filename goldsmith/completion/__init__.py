"""What bash, zsh and fish offer at Tab: the line as typed so far, what fits there, and a script for each shell."""
