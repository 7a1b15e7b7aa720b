"""DICOM out: what a registration found as objects that an archive keeps. pydicom (the extra `dicom`) is loaded by the
first call that needs it."""
