"""The pixels of compressed test files as decoders know them that are independent of ours.

SHA-256 of the first frame, colour by pixel and little endian; GDCM 3.2, and pylibjpeg 2.1 or pyjpegls 1.5, give the
same. Files whose decoding is not exact by its standard (JPEG with a cosine transform) are not among them.
"""

DIGESTS = {
    "693_J2KI.dcm": "f249f833d5e3cbc361b4ced94aeeb8db7fc7376087b9f395a2ccf2f6f3059268",
    "693_J2KR.dcm": "6b3b6bb553a0b5692ee63737f4cb8d6bcfa960e7ae37e5d1bd9521b671b501b0",
    "GDCMJ2K_TextGBR.dcm": "bea5673fdd49313fd8c391f115e57ac501f44194aa3915c22293ddb55f1d0b88",
    "J2K_pixelrep_mismatch.dcm": "1296350a0006ef6908ce4aa11717e3e8a236b63478a097bbfb45ac7a5fca6359",
    "JPEG-LL.dcm": "a6e9d32143339d3f5748b5520aa4e6c6ffb3550b6f71fdf17bdb2ebb44bc2611",
    "JPEG2000.dcm": "0b1224a6dcd0dcebb1ae6966270b620a8aecc3e20d7fe5b01504e574e1814ac6",
    "JPEGLSNearLossless_08.dcm": "9eb46aa86c342094f826affc35703f71b425ba4ef229fe1711adcf1bb3ca458f",
    "JPEGLSNearLossless_16.dcm": "f929318278115ce952d85c011f752634e266720680e807bd03bf97ded3f0d3e4",
    "JPGLosslessP14SV1_1s_1f_8b.dcm": "36e27e4f1e87a7d50407463323ddc3736736ecff35eb4e4a4c1b74646938835d",
    "MR2_J2KI.dcm": "5964b5a1b27090d6af68adef02d7881689c13f46a43f52b588a2691004f3a278",
    "MR2_J2KR.dcm": "7d1a676f3c012d0ca9d4fb9069c5dcca2b0bac014173dba48f0e32b9b49198b3",
    "MR_small_jp2klossless.dcm": "88617aaa46138fb1b6e2a951e762d962382354d69f47f8c04d4abff2f6a6a63e",
    "MR_small_jpeg_ls_lossless.dcm": "88617aaa46138fb1b6e2a951e762d962382354d69f47f8c04d4abff2f6a6a63e",
    "RG1_J2KI.dcm": "88aa9135b12d8582316d1db5c45b4c2c55dd1da74c3c52a80a7be49f145c7149",
    "RG1_J2KR.dcm": "26721b2112d94887b0feae345f1b7c1c8148e1710eaf27283d8c3e650682d252",
    "RG3_J2KI.dcm": "25559cb05640e9e9860e91adf4d49dd3469694d0ff56bbf76c8853c3e05f4cc5",
    "RG3_J2KR.dcm": "85480a0287e37795bc96799747a69af475f3bf0c35203fac1010fc6e100821a7",
    "SC_rgb_gdcm_KY.dcm": "169e619557b12114a7f0be8602026e9abb3d5045804311736ec14cecb026aca9",
    "SC_rgb_jls_lossy_line.dcm": "bd5344c0a46bc6c0869921680aa72c1ee344be34079d9b9c5b421336f24d798f",
    "SC_rgb_jls_lossy_sample.dcm": "bd5344c0a46bc6c0869921680aa72c1ee344be34079d9b9c5b421336f24d798f",
    "SC_rgb_jpeg_gdcm.dcm": "169e619557b12114a7f0be8602026e9abb3d5045804311736ec14cecb026aca9",
    "US1_J2KI.dcm": "2138e755d364de8970f327301a0079f199e3cbbc0d4a61991a193819d4e19e80",
    "US1_J2KR.dcm": "e16892020c73095e42ff4cf7368de5206f11012e25feaed53cc2bc614602bb9a",
    "bad_sequence.dcm": "ef7120ddfc77c166ecdc5ffb99715deff8be9f3e7c0409021c0e06b962d2a61a",
    "emri_small_jpeg_2k_lossless.dcm": "c789183acdfdfb1cb565fc6615e0c4b71914f42bf96ede4c0041e2009ea79843",
    "emri_small_jpeg_ls_lossless.dcm": "c789183acdfdfb1cb565fc6615e0c4b71914f42bf96ede4c0041e2009ea79843",
    "examples_jpeg2k.dcm": "e16892020c73095e42ff4cf7368de5206f11012e25feaed53cc2bc614602bb9a",
    "explicit_VR-UN.dcm": "a729f6fe1e75762988fd4a8749a18b580bbb16fb5365abf5a21dfecb0244b517",
}
