// The merged tree of some layers as a plain one: directories made anew, all else linked to what the layers
// have. Nobody may write to either in place from then on.
#pragma once

#include "cancel.h"
#include "merged_view.h"
#include "progress.h"

namespace overlayfs {

struct MergedLinksOptions {
  Cancel cancel;
  Progress progress;
};

// Fills the empty directory `to`, a readable descriptor, with what a mount of the layers would show, and
// gives it the metadata of the merged root. What cannot be linked (EMLINK, EPERM, EXDEV) is copied. What a
// mount would refuse is its error. Nothing mounted below a layer is crossed: EXDEV.
Viewed<bool> link_merged(const MergedView& view, int to, const MergedLinksOptions& options);

}  // namespace overlayfs
