// Who holds a mount: the same files of /proc read in the same order as the package does, and nothing kept of
// them.
#pragma once

namespace twin {

// How many descriptors, directories, programs and mapped pieces are on the mount.
int count_holders(const char* target);

}  // namespace twin
