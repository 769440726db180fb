// A lower, changes to it, and a walk that makes the system calls of `changes()` and nothing else.
#pragma once

#include "overlay.h"

namespace twin {

// Files in l0, a thousand in each directory.
void make_lower(const Shape& shape);

// Changes through the mount at m0: of ten four files that grow, two that go, four that are new. Of as many as
// there are files a thousand in each directory, of fewer ten in each of some.
void make_changes(const Shape& shape);

// u0 over l0. With `renames` the search for what has moved comes first.
void walk_changes(const Shape& shape);

}  // namespace twin
