// Under index=on a lower file with several names that was changed under one of them is changed under all, and
// only the index says so: the others have no entry in the upper.
#pragma once

#include "change_context.h"

namespace overlayfs {

// Fills `linked`, by one pass over the merged view, if the index holds anything that could have other names.
struct LinkedNames {
  bool scanned = false;             // that pass was needed
  std::vector<ChangeError> failed;  // what it could not look at: nothing else goes there
};
Result<LinkedNames> find_linked_names(ChangeContext& context);

}  // namespace overlayfs
