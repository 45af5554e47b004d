"""What several test modules share: data, servers, doubles of what is outside."""
