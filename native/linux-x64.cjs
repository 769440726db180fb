// For bundlers: names the one binary, so that they can see and carry it.
module.exports = require('../prebuilds/linux-x64/overlayfs.glibc.node');
