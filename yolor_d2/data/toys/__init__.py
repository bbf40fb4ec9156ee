"""The parts of the toy scenes' generator: layout, drawing, truth, captions, COCO's formats."""
