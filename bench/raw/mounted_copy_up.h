// Copy-up through a mounted overlay, by four threads.
#pragma once

namespace twin {

// Of all that is in the directory `d` of the overlay: located, looked at, opened for writing, looked at again.
void copy_up_through(const char* target);

}  // namespace twin
