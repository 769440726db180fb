// The test build's fault plan: which system call fails, when and with what errno. It can only make calls
// fail. Not part of the release binary.
#pragma once

#include <map>
#include <string>

namespace overlayfs::fault {

bool fails(const char* call);  // sets errno when it answers true
void plan(std::string call, int error, int skip,
          int times);                // let `skip` calls through, then fail `times` of them
std::map<std::string, int> clear();  // how often each call has been asked for since the last time

}  // namespace overlayfs::fault
