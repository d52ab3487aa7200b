//! Who encrypts: whom the program has chosen for the whole process, or else the one that comes with this feature.

/// Sees to it that there is somebody: connecting would panic for want of him.
#[cfg(feature = "redis-tls")]
pub(super) fn provide() {
    use rustls::crypto::{CryptoProvider, ring};

    if CryptoProvider::get_default().is_none() {
        // Where the program was quicker, its own choice stands.
        _ = ring::default_provider().install_default();
    }
}

#[cfg(not(feature = "redis-tls"))]
pub(super) fn provide() {}
