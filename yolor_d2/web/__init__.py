"""A web page for predictions: a Gradio app behind a request filter."""
