// How layer paths are written into overlay option strings. The kernel parses them twice: mount(2) splits its
// data at commas, then overlayfs undoes backslashes; lowerdir also splits at colons. See
// Documentation/filesystems/overlayfs.rst.
#pragma once

#include <string>
#include <string_view>

namespace overlayfs {

std::string escape_lowerdir(std::string_view path);  // `\` `:` `,` inside lowerdir=, any API
std::string escape_upperdir(std::string_view path,
                            bool for_mount_2);  // upperdir= and workdir=: `\`, and `,` in mount(2)

}  // namespace overlayfs
