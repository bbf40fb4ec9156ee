"""A web page for predictions: a small server, and a page that draws its answers itself."""
