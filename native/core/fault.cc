#include "fault.h"

#include <cerrno>
#include <mutex>
#include <utility>
#include <vector>

namespace overlayfs::fault {
namespace {

struct Fault {
  std::string call;
  int error, skip, times;
};
std::mutex mutex;
std::vector<Fault> faults;
std::map<std::string, int> asked;

}  // namespace

bool fails(const char* call) {
  const std::lock_guard lock(mutex);
  ++asked[call];
  for (Fault& fault : faults) {
    if (fault.call != call || fault.times == 0) continue;
    if (fault.skip-- > 0) continue;
    --fault.times;
    errno = fault.error;
    return true;
  }
  return false;
}

void plan(std::string call, int error, int skip, int times) {
  const std::lock_guard lock(mutex);
  faults.push_back({std::move(call), error, skip, times});
}

std::map<std::string, int> clear() {
  const std::lock_guard lock(mutex);
  faults.clear();
  return std::exchange(asked, {});
}

}  // namespace overlayfs::fault
