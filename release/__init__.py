"""What makes a release and checks it; no part of the package."""
