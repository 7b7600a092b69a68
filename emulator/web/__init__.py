"""HTTP servers, their certificates, the identities of callers, and the processes behind them."""
