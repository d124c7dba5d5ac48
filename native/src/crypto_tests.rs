use super::{negate_p256, Curve, KeyError, PrivateKey, PublicKey, P256_HALF_ORDER};

const CURVES: [Curve; 2] = [Curve::K256, Curve::P256];

fn private(curve: Curve, seed: u8) -> PrivateKey {
    PrivateKey::from_bytes(curve, &[seed; 32]).expect("a scalar below both orders")
}

#[test]
fn signs_and_verifies_on_both_curves() {
    for curve in CURVES {
        for seed in 1..40 {
            let key = private(curve, seed);
            let signature = key.sign(b"message").expect("signed");
            let public = key.public().expect("public key");
            assert!(public.verify(b"message", &signature));
            assert!(!public.verify(b"massage", &signature));
            let other = private(curve, seed + 1).public().expect("public key");
            assert!(!other.verify(b"message", &signature));
        }
    }
}

#[test]
fn a_high_s_is_refused_although_the_curve_accepts_it() {
    let key = private(Curve::P256, 7);
    let mut signature = key.sign(b"message").expect("signed");
    negate_p256(&mut signature[32..]);
    assert!(signature[32..] > P256_HALF_ORDER[..]);
    assert!(!key
        .public()
        .expect("public key")
        .verify(b"message", &signature));
    negate_p256(&mut signature[32..]);
    assert!(key
        .public()
        .expect("public key")
        .verify(b"message", &signature));
}

#[test]
fn keys_survive_their_text() {
    for curve in CURVES {
        let key = private(curve, 9).public().expect("public key");
        assert_eq!(PublicKey::from_did_key(&key.did_key()), Ok(key.clone()));
        assert_eq!(PublicKey::from_method("Multikey", &key.multikey()), Ok(key));
    }
}

#[test]
fn bad_keys_are_outcomes() {
    let k256 = private(Curve::K256, 9).public().expect("public key");
    for (text, error) in [
        ("", KeyError::NotDidKey),
        ("did:plc:abc", KeyError::NotDidKey),
        ("did:key:", KeyError::NotMultibase),
        ("did:key:mAAAA", KeyError::NotMultibase),
        ("did:key:z0", KeyError::NotMultibase),
        ("did:key:z6Mk", KeyError::UnknownType),
        ("did:key:z2J9", KeyError::UnknownType),
    ] {
        assert_eq!(PublicKey::from_did_key(text), Err(error), "{text}");
    }
    let mut cut = k256.did_key();
    cut.pop();
    assert!(PublicKey::from_did_key(&cut).is_err());
    let unknown = PublicKey::from_method("Ed25519VerificationKey2020", &k256.multikey());
    assert_eq!(unknown, Err(KeyError::UnknownType));
    assert_eq!(
        PublicKey::from_point(Curve::K256, &[4; 65]),
        Err(KeyError::BadPoint)
    );
    assert_eq!(
        PublicKey::from_point(Curve::P256, &[6; 65]),
        Err(KeyError::BadPoint)
    );
    for scalar in [&[0; 32][..], &[0xff; 32], &[1; 31], &[]] {
        for curve in CURVES {
            assert!(PrivateKey::from_bytes(curve, scalar).is_err());
        }
    }
}

#[test]
fn signatures_of_another_shape_are_refused() {
    for curve in CURVES {
        let key = private(curve, 3).public().expect("public key");
        for signature in [&[][..], &[0; 63], &[0; 64], &[0xff; 64], &[1; 65], &[0; 70]] {
            assert!(!key.verify(b"message", signature));
        }
    }
}
