"""Grey images on physical grids: in, out, and their values between voxels."""
