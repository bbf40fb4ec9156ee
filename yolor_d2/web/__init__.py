"""The web page of a network: a Gradio app with upload limits."""
