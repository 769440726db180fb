// Copying a directory of regular files up, by the system calls that the package
// makes for it.
#pragma once

namespace twin {

// l0/d into u0/d, made in w0/work, on so many threads, durable at the end.
void copy_up(int threads);

} // namespace twin
