// A store of layers, by the system calls that lib/store makes: a container's life, and passes over the files.
// The store's root is the current directory.
#pragma once

#include "overlay.h"

namespace twin {

// A container on `shape.lowers` image layers: made, mounted, unmounted, removed.
void live_container(const Shape& shape);

// Reads the files of every layer, `shape.entries` of them.
void list_layers(const Shape& shape);

// The same, with the links in `l`, the work directories and the mounts.
void check_layers(const Shape& shape);

// How much the topmost of `shape.lowers` layers takes, in `shape.entries` files.
void measure_layer(const Shape& shape);

}  // namespace twin
